package learn

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// hottest is the temperature of the hottest thermal zone below sysfs, in degrees
// Celsius; false where the box does not say.
func hottest(sysfs string) (celsius float64, ok bool) {
	files, _ := filepath.Glob(filepath.Join(sysfs, "class/thermal/thermal_zone*/temp"))
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // of some zones the driver says nothing now and then
		}
		milli, err := strconv.ParseFloat(strings.TrimSpace(string(b)), 64)
		if err == nil && (!ok || milli/1000 > celsius) {
			celsius, ok = milli/1000, true
		}
	}
	return celsius, ok
}
