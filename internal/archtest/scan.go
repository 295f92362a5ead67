package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Package is what the source files of one directory say, those of every
// platform, without the tests.
type Package struct {
	// Path is relative to the module: "events", "cmd/internal/boot".
	Path string
	// Name is the name in the package clause. It is empty for a directory
	// that holds nothing but tests; such a package is on the map all the same.
	Name string
	// Doc is the package comment, empty when no file has one.
	Doc string
	// Imports are the import paths, sorted, each once.
	Imports []string
	// Environment has the places that read the environment of the process,
	// such as "boot.go:12: os.Getenv".
	Environment []string
}

// Scan reads the packages of the module in root, in the order of their paths.
// Like `./...` it passes over testdata, names that begin with a dot or an
// underscore, and directories that are modules of their own.
func Scan(root string) ([]Package, error) {
	found := map[string]*Package{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != root && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || isModule(path)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return fmt.Errorf("place %s: %w", path, err)
		}
		dir = filepath.ToSlash(dir)
		if found[dir] == nil {
			found[dir] = &Package{Path: dir}
		}
		if strings.HasSuffix(name, "_test.go") {
			return nil
		}
		return found[dir].read(path)
	})
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", root, err)
	}
	packages := make([]Package, 0, len(found))
	for _, p := range found {
		slices.Sort(p.Imports)
		p.Imports = slices.Compact(p.Imports)
		packages = append(packages, *p)
	}
	slices.SortFunc(packages, func(a, b Package) int { return strings.Compare(a.Path, b.Path) })
	return packages, nil
}

func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// read adds what one source file says.
func (p *Package) read(path string) error {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	p.Name = file.Name.Name
	if file.Doc != nil && p.Doc == "" {
		p.Doc = file.Doc.Text()
	}
	readers := map[string]string{} // local name → package that can read the environment
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("import %s in %s: %w", spec.Path.Value, path, err)
		}
		p.Imports = append(p.Imports, imported)
		if imported != "os" && imported != "syscall" {
			continue
		}
		local := imported
		if spec.Name != nil {
			local = spec.Name.Name
		}
		readers[local] = imported
	}
	ast.Inspect(file, func(node ast.Node) bool {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		from, ok := selector.X.(*ast.Ident)
		if !ok || readers[from.Name] == "" {
			return true
		}
		switch selector.Sel.Name {
		case "Getenv", "LookupEnv", "Environ", "ExpandEnv":
			p.Environment = append(p.Environment, fmt.Sprintf("%s:%d: %s.%s", filepath.Base(path),
				files.Position(selector.Pos()).Line, readers[from.Name], selector.Sel.Name))
		}
		return true
	})
	return nil
}
