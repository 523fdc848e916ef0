package testkit

import (
	"path/filepath"
	"testing"
)

// Without the variable the shared folder is the one beside the repository.
func TestSharedDir(t *testing.T) {
	t.Setenv(SharedEnv, "")
	if dir, given := sharedDir(t); given || filepath.Base(dir) != "shared" || filepath.Dir(dir) != filepath.Dir(Root(t)) {
		t.Errorf("%s %v", dir, given)
	}
	t.Setenv(SharedEnv, "elsewhere")
	if dir, given := sharedDir(t); !given || dir != "elsewhere" {
		t.Errorf("%s %v", dir, given)
	}
}
