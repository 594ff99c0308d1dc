package aggregate

// OneOf2 is a value of one of two inputs that are aggregated together.
type OneOf2[A, B any] struct {
	// Input says which of the fields is set: 1 for A, 2 for B.
	Input uint8
	A     A
	B     B
}

// OneOf3 is a value of one of three inputs; see OneOf2.
type OneOf3[A, B, C any] struct {
	Input uint8
	A     A
	B     B
	C     C
}

// OneOf4 is a value of one of four inputs; see OneOf2.
type OneOf4[A, B, C, D any] struct {
	Input uint8
	A     A
	B     B
	C     C
	D     D
}

// Cogroup2 folds two inputs into one state, each with an adder of its own. The state,
// which begins as the zero value, is the result. Set Init, Merge (for session windows)
// or Result where that is not enough; Custom makes it an aggregator:
//
//	aggregate.Custom(aggregate.Cogroup2(addOrder, addClick))
func Cogroup2[A, B, S any](addA func(S, A) S, addB func(S, B) S) Fold[OneOf2[A, B], S, S] {
	if addA == nil || addB == nil {
		return Fold[OneOf2[A, B], S, S]{} // which Custom refuses
	}
	return Fold[OneOf2[A, B], S, S]{
		Add: func(s S, v OneOf2[A, B]) S {
			if v.Input == 1 {
				return addA(s, v.A)
			}
			return addB(s, v.B)
		},
		Result: identity[S],
	}
}

// Cogroup3 folds three inputs into one state; see Cogroup2.
func Cogroup3[A, B, C, S any](
	addA func(S, A) S, addB func(S, B) S, addC func(S, C) S,
) Fold[OneOf3[A, B, C], S, S] {
	if addA == nil || addB == nil || addC == nil {
		return Fold[OneOf3[A, B, C], S, S]{} // which Custom refuses
	}
	return Fold[OneOf3[A, B, C], S, S]{
		Add: func(s S, v OneOf3[A, B, C]) S {
			switch v.Input {
			case 1:
				return addA(s, v.A)
			case 2:
				return addB(s, v.B)
			}
			return addC(s, v.C)
		},
		Result: identity[S],
	}
}

// Cogroup4 folds four inputs into one state; see Cogroup2.
func Cogroup4[A, B, C, D, S any](
	addA func(S, A) S, addB func(S, B) S, addC func(S, C) S, addD func(S, D) S,
) Fold[OneOf4[A, B, C, D], S, S] {
	if addA == nil || addB == nil || addC == nil || addD == nil {
		return Fold[OneOf4[A, B, C, D], S, S]{} // which Custom refuses
	}
	return Fold[OneOf4[A, B, C, D], S, S]{
		Add: func(s S, v OneOf4[A, B, C, D]) S {
			switch v.Input {
			case 1:
				return addA(s, v.A)
			case 2:
				return addB(s, v.B)
			case 3:
				return addC(s, v.C)
			}
			return addD(s, v.D)
		},
		Result: identity[S],
	}
}
