package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/observe"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (completionCommand) Help() string {
	return `Prints a script that makes a shell complete commands and flags.

Examples:

  source <(obs completion bash)
  obs completion zsh > "$fpath[1]/_obs"
  obs completion fish > ~/.config/fish/completions/obs.fish`
}

func (c completionCommand) Run(std boot.Std, k *kong.Kong) error {
	places := completions(k.Model.Node)
	var b strings.Builder
	switch c.Shell {
	case "bash":
		bashScript(&b, places)
	case "zsh":
		zshScript(&b, places)
	case "fish":
		fishScript(&b, places)
	}
	_, err := io.WriteString(std.Stdout, b.String())
	return err
}

// place is what may stand behind the words of a command.
type place struct {
	path  string // such as "jobs list"; empty: behind obs itself
	words []word // commands, or the values of an argument
	flags []flagWord
}

type word struct{ text, help string }

type flagWord struct {
	word          // with its dashes
	valued bool   // it takes a value
	values string // those it may have, with spaces; empty: files, or anything
}

// flagValues are the values that a flag may have, where they are few.
var flagValues = map[string]string{
	"--status":      spaced(jobStatuses()),
	"--source-type": spaced([]string{observe.SourceEvent, observe.SourceBatch, observe.SourceSummary, observe.SourceReindex}),
	"--scopes":      spaced(observe.Scopes()),
	"--storage":     spaced(observe.Storages()),
	"--log-level":   "debug info warn error",
	"--log-format":  "text json",
}

func spaced[S ~string](list []S) string {
	texts := make([]string, len(list))
	for i, s := range list {
		texts[i] = strings.ReplaceAll(string(s), "*", `\*`) // no pattern of file names
	}
	return strings.Join(texts, " ")
}

// completions are the places of a program, its commands in their order.
func completions(top *kong.Node) []place {
	var places []place
	var walk func(n *kong.Node, path string)
	walk = func(n *kong.Node, path string) {
		p := place{path: path}
		flags := slices.Concat(n.AllFlags(true)...)
		if n.DefaultCmd != nil { // its flags may follow at once
			flags = slices.Concat(flags, slices.Concat(n.DefaultCmd.AllFlags(true)...))
		}
		seen := map[string]bool{}
		for _, f := range flags {
			name := "--" + f.Name
			if !seen[name] {
				seen[name] = true
				p.flags = append(p.flags, flagWord{word{name, plainHelp(f.Help)}, !f.IsBool(), flagValues[name]})
			}
		}
		for _, a := range n.Positional {
			for value := range strings.SplitSeq(a.Enum, ",") {
				if value != "" {
					p.words = append(p.words, word{value, ""})
				}
			}
		}
		at := len(places)
		places = append(places, p)
		for _, child := range n.Children {
			if child.Hidden || child.Type != kong.CommandNode {
				continue
			}
			places[at].words = append(places[at].words, word{child.Name, plainHelp(child.Help)})
			walk(child, strings.TrimSpace(path+" "+child.Name))
		}
	}
	walk(top, "")
	return places
}

// plainHelp is a help that needs no quoting in any shell.
func plainHelp(help string) string {
	first, _, _ := strings.Cut(help, "\n")
	return strings.TrimSuffix(strings.Map(func(r rune) rune {
		switch {
		case r == '\'':
			return '’'
		case strings.ContainsRune("\"`$\\:[]{}", r):
			return ' '
		}
		return r
	}, first), ".")
}

// valued are the flags that take a value wherever they stand: the word behind
// one is no command.
func valued(places []place) []flagWord {
	var list []flagWord
	never := map[string]bool{}
	for _, p := range places {
		for _, f := range p.flags {
			if f.valued {
				list = append(list, f)
			} else {
				never[f.text] = true
			}
		}
	}
	list = slices.DeleteFunc(list, func(f flagWord) bool { return never[f.text] })
	slices.SortFunc(list, func(a, b flagWord) int { return cmp.Compare(a.text, b.text) })
	return slices.CompactFunc(list, func(a, b flagWord) bool { return a.text == b.text })
}

// pattern is a case of a shell's case that any of the texts fits.
func pattern[T any](list []T, text func(T) string) string {
	var quoted []string
	for _, one := range list {
		if t := text(one); t != "" {
			quoted = append(quoted, "'"+t+"'")
		}
	}
	return strings.Join(quoted, "|")
}

func pathOf(p place) string    { return p.path }
func textOf(f flagWord) string { return f.text }

func bashScript(w io.Writer, places []place) {
	flags := valued(places)
	fmt.Fprintf(w, `# bash completion of obs, made by: obs completion bash
_obs() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} at= w i
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		w=${COMP_WORDS[i]}
		case $w in %s)
			[[ ${COMP_WORDS[i+1]} == = ]] && ((i++))
			((i++)); continue ;;
		esac
		case "${at:+$at }$w" in %s) at="${at:+$at }$w" ;; esac
	done
	[[ $cur == = ]] && cur=
	[[ $prev == = ]] && prev=${COMP_WORDS[COMP_CWORD-2]}
	case $prev in
`, pattern(flags, textOf), pattern(places, pathOf))
	for _, f := range flags {
		if f.values != "" {
			fmt.Fprintf(w, "\t'%s') COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", f.text, f.values)
		}
	}
	fmt.Fprintf(w, "\t%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n\tesac\n\tcase $at in\n", pattern(flags, textOf))
	for _, p := range places {
		var words []string
		for _, one := range p.words {
			words = append(words, one.text)
		}
		for _, f := range p.flags {
			words = append(words, f.text)
		}
		fmt.Fprintf(w, "\t'%s') w='%s' ;;\n", p.path, strings.Join(words, " "))
	}
	fmt.Fprint(w, "\tesac\n\t[[ $cur == -* || $w != -* ]] || return\n\tCOMPREPLY=($(compgen -W \"$w\" -- \"$cur\"))\n}\ncomplete -o default -F _obs obs\n")
}

func zshScript(w io.Writer, places []place) {
	flags := valued(places)
	fmt.Fprintf(w, `#compdef obs
# zsh completion of obs, made by: obs completion zsh
_obs() {
	local at= w i
	local -a commands flags
	for ((i = 2; i < CURRENT; i++)); do
		w=$words[i]
		case $w in %s) ((i++)); continue ;; esac
		case "${at:+$at }$w" in %s) at="${at:+$at }$w" ;; esac
	done
	case $words[CURRENT-1] in
`, pattern(flags, textOf), pattern(places, pathOf))
	for _, f := range flags {
		if f.values != "" {
			fmt.Fprintf(w, "\t'%s') compadd -- %s; return ;;\n", f.text, f.values)
		}
	}
	fmt.Fprintf(w, "\t%s) _files; return ;;\n\tesac\n\tcase $at in\n", pattern(flags, textOf))
	for _, p := range places {
		fmt.Fprintf(w, "\t'%s')", p.path)
		if len(p.words) > 0 {
			fmt.Fprint(w, "\n\t\tcommands=(")
			for _, one := range p.words {
				fmt.Fprintf(w, "\n\t\t\t'%s:%s'", one.text, one.help)
			}
			fmt.Fprint(w, ")")
		}
		fmt.Fprint(w, "\n\t\tflags=(")
		for _, f := range p.flags {
			fmt.Fprintf(w, "\n\t\t\t'%s:%s'", f.text, f.help)
		}
		fmt.Fprint(w, ") ;;\n")
	}
	fmt.Fprint(w, `	esac
	(($#commands)) && _describe command commands
	_describe -o flag flags
}
if [[ $funcstack[1] == _obs ]]; then _obs "$@"; else compdef _obs obs; fi
`)
}

func fishScript(w io.Writer, places []place) {
	fmt.Fprintf(w, `# fish completion of obs, made by: obs completion fish
function __obs_at
	set -l at
	set -l skip 0
	for w in (commandline -opc)[2..-1]
		if test $skip = 1
			set skip 0
			continue
		end
		switch $w
			case %s
				set skip 1
				continue
		end
		switch (string join ' ' $at $w)
			case %s
				set at (string join ' ' $at $w)
		end
	end
	test "$at" = "$argv[1]"
end
complete -c obs -f
`, strings.ReplaceAll(pattern(valued(places), textOf), "|", " "), strings.ReplaceAll(pattern(places, pathOf), "|", " "))
	for _, p := range places {
		for _, one := range p.words {
			fmt.Fprintf(w, "complete -c obs -n \"__obs_at '%s'\" -a '%s' -d '%s'\n", p.path, one.text, one.help)
		}
		for _, f := range p.flags {
			value := ""
			switch {
			case f.values != "":
				value = " -x -a '" + f.values + "'"
			case f.valued:
				value = " -r -F"
			}
			fmt.Fprintf(w, "complete -c obs -n \"__obs_at '%s'\" -l %s%s -d '%s'\n", p.path, f.text[2:], value, f.help)
		}
	}
}
