package tailrace

import (
	"errors"
	"fmt"
	"strings"
)

// failures are errors by where they happened. What several places say in the same words,
// such as names of one server that is down, is said once.
type failures []failure

type failure struct {
	places []string
	err    error
}

func (f *failures) add(place string, err error) {
	for i := range *f {
		if (*f)[i].err.Error() == err.Error() {
			(*f)[i].places = append((*f)[i].places, place)
			return
		}
	}
	*f = append(*f, failure{[]string{place}, err})
}

func (f failures) join() error {
	var errs []error
	for _, x := range f {
		errs = append(errs, fmt.Errorf("tailrace: %s: %w", strings.Join(x.places, ", "), x.err))
	}
	return errors.Join(errs...)
}
