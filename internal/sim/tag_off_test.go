//go:build !synctests

package sim

const simulates = false
