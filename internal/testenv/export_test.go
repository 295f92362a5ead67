package testenv

var ClaimFolder = claimFolder
