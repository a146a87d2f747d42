package ricloudtest

import (
	"slices"
	"strconv"
	"time"
)

// Generation is the way in which one version of the API writes its answers.
type Generation uint8

// The generations. Their names for ParseGeneration are "current", "2018", "2019" and "mixed".
const (
	// GenerationCurrent is the API of about 2020, which the vendor's client 3.2.0 reads: list
	// objects, nested sources, signed URLs, errors and config.
	GenerationCurrent Generation = iota
	// Generation2018 is the API of the getting-started guide: arrays, numeric IDs and
	// tasks_completed. A finished poll still says "processing".
	Generation2018
	// GenerationMixed draws a generation for each answer, with list cursors that are sometimes
	// inclusive. A client that works with it works with every generation.
	GenerationMixed
	// Generation2019 is the API that the vendor's clients 3.0.0rc0 to 3.1.1 read: arrays inside
	// resources, but today's fields, and no errors in a poll.
	Generation2019
)

// ParseGeneration returns the generation with a name: "current", "2018", "2019" or "mixed".
func ParseGeneration(name string) (Generation, error) {
	i := slices.Index(generationNames(), name)
	if i < 0 {
		return 0, refuse("generation %q: want current, 2018, 2019 or mixed", name)
	}
	return Generation(i), nil //nolint:gosec // an index of four names
}

// String returns the generation's name.
func (g Generation) String() string {
	if names := generationNames(); int(g) < len(names) {
		return names[g]
	}
	return "generation " + strconv.Itoa(int(g))
}

func generationNames() []string { return []string{"current", "2018", "mixed", "2019"} }

// view writes resources in one generation, for clients that reach the storage at origin. It shares
// no code with the SDK's own types, so that a mistake in one shows in the other.
type view struct {
	server     *Server
	generation Generation // never GenerationMixed
	origin     string
	noTotal    bool // total_count is 0, as in one sample of the documentation
}

// newView draws the generation of one answer. s.mu is held.
func (s *Server) newView(origin string) view {
	v := view{server: s, generation: s.generation, origin: origin}
	if s.generation == GenerationMixed {
		drawn := []Generation{GenerationCurrent, Generation2018, Generation2019}
		v.generation = drawn[s.random.IntN(len(drawn))]
		v.noTotal = s.draw(0.5)
	}
	return v
}

// guide reports whether answers look as in the getting-started guide.
func (v view) guide() bool { return v.generation == Generation2018 }

// arrays reports whether lists inside resources are plain arrays.
func (v view) arrays() bool { return v.generation != GenerationCurrent }

// stamp writes a time, or null.
func stamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}

// number writes an ID, which the guide's answers write as a number.
func (v view) number(id string) any {
	if n, err := strconv.Atoi(id); v.guide() && err == nil {
		return n
	}
	return id
}

// reference writes a nullable ID.
func (v view) reference(id string) any {
	if id == "" {
		return nil
	}
	return v.number(id)
}

// optional writes a value, or null for an empty one.
func optional[T comparable](value T) any {
	var zero T
	if value == zero {
		return nil
	}
	return value
}

// nested writes a list inside a resource: an array, or the first page of a list object whose
// further pages are at path. The newest item comes first, as in lists.
func nested[T any](v view, items []T, path string, write func(view, T) object) any {
	const shown = 10
	data := make([]object, 0, min(len(items), shown))
	for i := len(items) - 1; i >= 0 && (v.arrays() || len(data) < shown); i-- {
		data = append(data, write(v, items[i]))
	}
	if v.arrays() {
		return data
	}
	return v.list(data, len(items) > len(data), len(items), path)
}

// list writes a list object.
func (v view) list(data []object, more bool, total int, path string) object {
	if v.noTotal {
		total = 0
	}
	list := object{
		"resource": "list", "data": data, "has_more": more, "total_count": total, "url": path,
	}
	if v.guide() {
		delete(list, "resource")
	}
	return list
}
