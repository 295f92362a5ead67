package llm

// Read is read, for the tests of the parser.
var Read = read
