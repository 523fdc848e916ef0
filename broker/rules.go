package broker

import (
	"crypto/sha256"
	"crypto/subtle"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// rights is what one connection may do.
type rights struct{ publish, subscribe []string }

// rules is a configuration ready to be asked; it does not change.
type rules struct {
	users     map[string]UserConfig
	secrets   map[string]string
	anonymous *AnonymousConfig
}

func newRules(cfg Config) (*rules, error) {
	r := &rules{users: cfg.Users, secrets: map[string]string{}, anonymous: cfg.Anonymous}
	for name, u := range cfg.Users {
		s, err := u.secret()
		if err != nil {
			return nil, err
		}
		r.secrets[name] = s
	}
	return r, nil
}

// password compares in constant time. A user without a password has none that fits.
func (r *rules) password(user string, given []byte) bool {
	secret := r.secrets[user]
	if _, err := bcrypt.Cost([]byte(secret)); err == nil {
		return bcrypt.CompareHashAndPassword([]byte(secret), given) == nil
	}
	a, b := sha256.Sum256([]byte(secret)), sha256.Sum256(given)
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && secret != ""
}

// of returns the rights of a user ("" is anonymous), false when there is no place for it.
func (r *rules) of(user, client string, loopback bool) (*rights, bool) {
	if user != "" {
		u, ok := r.users[user]
		return &rights{fill(u.Publish, user, client), fill(u.Subscribe, user, client)}, ok
	}
	a := r.anonymous
	if !loopback && (a == nil || !a.BeyondLoopback) {
		return nil, false
	}
	if len(r.users) > 0 && a == nil {
		return nil, false
	}
	if a == nil || len(r.users) == 0 && a.Publish == nil && a.Subscribe == nil {
		return &rights{[]string{"#"}, []string{"#", "$SYS/#"}}, true
	}
	return &rights{fill(a.Publish, "", client), fill(a.Subscribe, "", client)}, true
}

// fill puts user and client id into whole levels. A rule whose value is empty
// or is no single level is left out: it must not widen what is allowed.
func fill(filters []string, user, client string) []string {
	var out []string
next:
	for _, f := range filters {
		levels := strings.Split(f, "/")
		for i, l := range levels {
			v := l
			switch l {
			case "%u":
				v = user
			case "%c":
				v = client
			default:
				continue
			}
			if v == "" || strings.ContainsAny(v, "/+#") {
				continue next
			}
			levels[i] = v
		}
		out = append(out, strings.Join(levels, "/"))
	}
	return out
}

func (r *rights) mayPublish(topic string) bool {
	return topic != "" && topic[0] != '$' && anyCovers(r.publish, topic)
}

// maySubscribe is asked for filters, and for topics when they are delivered.
func (r *rights) maySubscribe(filter string) bool {
	if rest, ok := strings.CutPrefix(filter, "$share/"); ok {
		_, filter, _ = strings.Cut(rest, "/")
	}
	return anyCovers(r.subscribe, filter)
}

func anyCovers(allowed []string, filter string) bool {
	for _, a := range allowed {
		if covers(a, filter) {
			return true
		}
	}
	return false
}
