package broker

import (
	"testing"

	"go.uber.org/goleak"
)

// When a broker's Run has returned nothing of it is left running.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
