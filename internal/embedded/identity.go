package embedded

// identity is the user that the server runs as. The zero value is ourselves.
type identity struct {
	credential bool // run as uid and gid, which needs root
	namespace  bool // run in a user namespace where our root is called uid and gid (Linux)
	uid, gid   int
	name       string
}
