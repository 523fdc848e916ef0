package fl

import (
	"os"
	"testing"
)

// TestMain has the codec made before a test with a clock of its own.
func TestMain(m *testing.M) {
	coder()
	os.Exit(m.Run())
}
