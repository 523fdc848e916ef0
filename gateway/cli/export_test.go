package cli

// DoorPictures is for the tests outside, which are the program too.
var DoorPictures = doorPictures
