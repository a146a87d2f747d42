package cli

// closest returns the word that is one or two letters from the typed one, or "". Of two, the one
// of the same length is closer: letters are exchanged more often than left out.
func closest(typed string, words []string) string {
	best, least := "", 3
	for _, word := range words {
		d := distance(typed, word)
		if d < least || d == least && best != "" && len(word) == len(typed) {
			best, least = word, d
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace to get from one word to the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
