package action

// A Config is one action of one jail.
type Config struct {
	Jail string
	// Name is the action's name: "bantam", or a file of action.d.
	Name string
	// Params are the parameters in its brackets, substituted: port, protocol, type…
	Params map[string]string
}
