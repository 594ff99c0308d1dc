package topology

// Why a rule drops a record or a row, as Runtime.Drop is told; docs/metrics.md describes them.
const (
	DropLate        = "late"
	DropExpired     = "expired"
	DropDuplicate   = "duplicate"
	DropNoRow       = "no-row"
	DropNotAnInsert = "not-an-insert"
	DropSkipped     = "skipped"
	DropDeadLetter  = "dead-letter"
	DropNoValue     = "replayed-without-value"
)

// DropReasons are all of them. Operators of other packages may have their own.
func DropReasons() []string {
	return []string{
		DropLate, DropExpired, DropDuplicate, DropNoRow, DropNotAnInsert, DropSkipped, DropDeadLetter, DropNoValue,
	}
}
