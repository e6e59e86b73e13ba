package outbox

// SetBounds makes the queue smaller, so that a test can fill it.
func (o *Outbox) SetBounds(letters int, bytes int64) { o.maxLetters, o.maxBytes = letters, bytes }
