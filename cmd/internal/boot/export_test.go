package boot

// BuiltByGoRun is for the table of paths.
var BuiltByGoRun = builtByGoRun
