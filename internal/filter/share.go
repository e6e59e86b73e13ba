package filter

// For is the rules for another jail whose filter is the same. They share the expressions,
// which are most of what rules hold, and so the counts of Faults, but not those of Stamps.
func (r *Rules) For(jail string) *Rules {
	other := *r
	other.stamps = &stamps{}
	other.config.Jail = jail
	return &other
}
