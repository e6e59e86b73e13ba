package config

import (
	"time"

	"bantam/internal/report"
)

// A Told is somebody who is told of bans, and how.
type Told struct {
	Channel string   `json:"channel"`
	Kind    string   `json:"kind"`
	Jails   []string `json:"jails"`
	// To are addresses or the chat; none where the address is itself a secret, as is a topic.
	To []string `json:"to,omitempty"`
	// Desks is true of reports that go to the abuse desk of each network.
	Desks bool `json:"desks,omitempty"`
	// On are the events that are told, Every is for how many seconds they are gathered. Of reports On is none, and Every how
	// long there is no second one about an address.
	On    []string `json:"on,omitempty"`
	Every int64    `json:"every"`
}

// Told are the channels as people are shown them, without secrets: those who tell the operator, then reports.
func (c *Config) Told() []Told {
	out := []Told{}
	tell, reports := c.Channels()
	for _, n := range tell {
		to := n.To
		if n.Chat != "" {
			to = []string{n.Chat}
		}
		out = append(out, Told{Channel: n.Channel, Kind: n.Kind, Jails: n.Jails, To: to, On: n.On, Every: int64(n.Digest / time.Second)})
	}
	for _, r := range reports {
		desks := r.Kind == report.Abuse && len(r.To) == 0
		out = append(out, Told{Channel: r.Channel, Kind: r.Kind, Jails: r.Jails, To: r.To, Desks: desks, Every: int64(r.Interval / time.Second)})
	}
	return out
}
