package cli

// DoorPictures is for the tests outside, which are the program too.
var DoorPictures = doorPictures

// FLCrowd is for the tests outside, likewise.
var FLCrowd = flCrowd

// FLCrowdCommand is the word by which the test binary is a crowd.
const FLCrowdCommand = flCrowdCommand
