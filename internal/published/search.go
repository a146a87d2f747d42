package published

import (
	"errors"
	"iter"
	"slices"
	"time"
)

// Asked is a poll that asks for files. Without its ID it is one that was about
// to be created, and may have been.
type Asked[ID ~string] struct {
	Poll  ID   `json:"asked,omitempty"`
	Files []ID `json:"files"`
}

// Saved is what is noted of a file that is saved.
type Saved[ID ~string] struct {
	Name        string    `json:"name"`
	Result      ID        `json:"result"`
	Poll        ID        `json:"poll,omitempty"`
	Task        ID        `json:"task,omitempty"`
	Identifier  string    `json:"identifier"`
	Type        string    `json:"type,omitempty"`
	URL         string    `json:"url"`
	Checksum    string    `json:"checksum"`
	Size        int64     `json:"size"`
	DateCreated time.Time `json:"date_created,omitzero"`
}

// Search finds those of the wanted files that need not be asked for, because
// they are saved already or an earlier run has asked for them.
type Search[ID ~string, R any] struct {
	Files []ID
	// Saved returns the results of files that are saved.
	Saved func() []R
	// Asked returns what was noted of the polls that ask for files, in that order.
	Asked func() []Asked[ID]
	// Note notes the poll of an earlier run that was found.
	Note func(Asked[ID])
	// File returns the file that a result offers, or "".
	File func(R) ID
	// Ended reports whether a poll has ended. Gone is its error for no such poll.
	Ended func(poll ID) (bool, error)
	Gone  error
	// Results waits for a poll and iterates over its results.
	Results func(poll ID) iter.Seq2[R, error]
	// Partial reports whether an error of Results says only that files failed.
	Partial func(error) bool
	// Unknown iterates over the polls that may be one whose ID was lost. Those
	// that were noted may be among them.
	Unknown func() iter.Seq2[ID, error]

	missing map[ID]bool
}

// Run yields the results of what it finds, and returns the files that are still
// to be asked for. It returns false when the iteration has to end.
func (s *Search[ID, R]) Run(yield func(R, error) bool) (rest []ID, more bool) {
	s.missing = make(map[ID]bool, len(s.Files))
	for _, id := range s.Files {
		s.missing[id] = true
	}
	for _, result := range s.Saved() {
		if !s.offer(result, yield) {
			return nil, false
		}
	}
	asked := s.Asked()
	for _, a := range asked {
		if a.Poll != "" && !s.resume(a, yield) {
			return nil, false
		}
	}
	if !s.findLost(asked, yield) {
		return nil, false
	}
	return slices.DeleteFunc(slices.Clone(s.Files), func(id ID) bool { return !s.missing[id] }), true
}

// resume takes the missing files that a poll of an earlier run asks for. A poll
// that still runs is waited for. What a poll that has ended does not offer stays
// missing.
func (s *Search[ID, R]) resume(asked Asked[ID], yield func(R, error) bool) bool {
	if !slices.ContainsFunc(asked.Files, func(id ID) bool { return s.missing[id] }) {
		return true
	}
	ended, err := s.Ended(asked.Poll)
	switch {
	case errors.Is(err, s.Gone):
		return true
	case err != nil:
		var none R
		yield(none, err)
		return false
	case !s.take(asked.Poll, ended, yield):
		return false
	case !ended:
		for _, id := range asked.Files {
			delete(s.missing, id)
		}
	}
	return true
}

// findLost looks for the polls whose creation was noted, but not their IDs: the
// answer was lost, or the process ended. A poll does not say which files it asks
// for. So each unknown poll is waited for, and what it offers of the missing
// files is taken.
func (s *Search[ID, R]) findLost(asked []Asked[ID], yield func(R, error) bool) bool {
	known, lost := map[ID]bool{}, []ID(nil)
	for _, a := range asked {
		known[a.Poll] = true
		answered := slices.ContainsFunc(asked, func(b Asked[ID]) bool {
			return b.Poll != "" && slices.Equal(a.Files, b.Files)
		})
		for _, id := range a.Files {
			if !answered && s.missing[id] && !slices.Contains(lost, id) {
				lost = append(lost, id)
			}
		}
	}
	if len(lost) == 0 {
		return true
	}
	for poll, err := range s.Unknown() {
		if err != nil {
			var none R
			yield(none, err)
			return false
		}
		before := len(s.missing)
		if !known[poll] && !s.take(poll, true, yield) {
			return false
		}
		if len(s.missing) < before {
			s.Note(Asked[ID]{poll, lost})
		}
	}
	return true
}

// take waits for a poll, yields the missing files that it offers, and removes
// them from missing. What failed is asked for again, or else is an error.
func (s *Search[ID, R]) take(poll ID, again bool, yield func(R, error) bool) bool {
	var none R
	for result, err := range s.Results(poll) {
		switch {
		case err != nil && s.Partial(err):
			if !again && !yield(none, err) {
				return false
			}
		case err != nil:
			yield(none, err)
			return false
		case !s.offer(result, yield):
			return false
		}
	}
	return true
}

// offer yields a result if it is of a missing file.
func (s *Search[ID, R]) offer(result R, yield func(R, error) bool) bool {
	file := s.File(result)
	if !s.missing[file] {
		return true
	}
	delete(s.missing, file)
	return yield(result, nil)
}
