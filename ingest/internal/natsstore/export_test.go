package natsstore

import "time"

// SetPatience bounds the calls whose context has no end.
func (s *Store) SetPatience(d time.Duration) { s.patience = d }
