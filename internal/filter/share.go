package filter

// For is the rules for another jail whose filter is the same. They share the expressions,
// which are most of what rules hold, and so the counts of Faults.
func (r *Rules) For(jail string) *Rules {
	other := *r
	other.config.Jail = jail
	return &other
}
