package notify

import "bantam/internal/smtp"

// kinds are the ways to tell somebody, by Config.Kind: each makes the channel of a Config, or says
// what is wrong with it. They ask nobody and start nothing. A new kind is a file with a channel in it, and a line here.
var kinds = map[string]func(*Config) (channel, error){
	smtp.Relay:    newMail,
	smtp.Gmail:    newMail,
	smtp.GmailAPI: newMail,
	smtp.MTA:      newMail,
	Telegram:      newTelegram,
	Discord:       newDiscord,
	Slack:         newSlack,
	Ntfy:          newNtfy,
	Webhook:       newWebhook,
}
