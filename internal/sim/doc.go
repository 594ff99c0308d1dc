// Package sim runs Kafka mode in simulation: members of a group, a cluster (kfake over its
// virtual network) and disks that can crash, in one process and in virtual time
// (testing/synctest). What happens to them, a seed chooses. In the end all that the members
// have written is compared with what an oracle makes of the input topics.
package sim
