package store

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// CheckName says whether s can name a model here: letters, digits and . _ - up
// to 64 bytes, so that it may be a level of a topic and part of a file's name.
func CheckName(s string) error {
	for i, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && (i == 0 || r != '.' && r != '-') || r == unicode.ReplacementChar {
			return fmt.Errorf("the name %q holds %q: letters, digits and, behind the first, . _ - make a name here", s, r)
		}
	}
	if s == "" || len(s) > 64 {
		return fmt.Errorf("the name %q has %d bytes: 1 to 64 make a name here", s, len(s))
	}
	return nil
}

// Bounds of a version: 8 numbers of up to 9 digits.
const (
	maxNumbers = 8
	maxDigits  = 9
)

// numbers are those of a version.
func numbers(s string) ([]int, error) {
	var list []int
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || len(part) > maxDigits || strconv.Itoa(n) != part || len(list) == maxNumbers {
			return nil, fmt.Errorf("the version %q is none such as 3 or 1.4.0: up to %d numbers with dots between them", s, maxNumbers)
		}
		list = append(list, n)
	}
	return list, nil
}

// CheckVersion says whether s is a version: dotted numbers such as 3 or 1.4.0.
func CheckVersion(s string) error {
	_, err := numbers(s)
	return err
}

// CompareVersions orders versions number by number; of two that begin alike the
// shorter is the older: 1 < 1.0 < 1.0.1 < 1.2 < 1.10. What is no version comes
// first.
func CompareVersions(a, b string) int {
	x, _ := numbers(a)
	y, _ := numbers(b)
	return slices.Compare(x, y)
}

// ofConfiguration says whether a version is one of those that are kept for the
// file which the configuration names: 0, 0.1, 0.2 ...
func ofConfiguration(version string) bool {
	return version == "0" || strings.HasPrefix(version, "0.")
}

// ParseRef takes NAME or NAME@VERSION apart; without a version it is "".
func ParseRef(s string) (name, version string, err error) {
	name, version, has := strings.Cut(s, "@")
	if err := CheckName(name); err != nil {
		return "", "", err
	}
	if has {
		err = CheckVersion(version)
	}
	return name, version, err
}

// next is the version that a file without one gets: the next whole number, or,
// for the configuration's own file, 0, then 0.1, 0.2 ...
func next(have []Version, configured bool) string {
	top := -1
	if !configured {
		top = 0
	}
	for _, v := range have {
		n, err := numbers(v.Version)
		switch {
		case err != nil:
		case !configured:
			top = max(top, n[0])
		case n[0] == 0 && len(n) == 1:
			top = max(top, 0)
		case n[0] == 0:
			top = max(top, n[1])
		}
	}
	switch top++; {
	case !configured:
		return strconv.Itoa(top)
	case top == 0:
		return "0"
	}
	return "0." + strconv.Itoa(top)
}
