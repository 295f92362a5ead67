package main

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// chart draws the figures of one group as bars: the rate with its spread, and beside it the processor time a unit, by
// process.
type chart struct {
	file  string
	group string
}

var charts = []chart{
	{"bench-steady.svg", "steady"},
	{"bench-single.svg", "single"},
	{"bench-drain.svg", "drain"},
	{"bench-relay.svg", "relay"},
}

const (
	rowHeight  = 34
	nameWidth  = 330
	panelWidth = 300
	panelGap   = 110 // room for the number behind the longest bar
	headHeight = 46
)

// colours by process. Whatever else runs is grey.
var colours = map[string]string{
	"postgres": "#336791", "nats": "#27aae1", "redis": "#c6302b", "node": "#5fa04e",
	"obs": "#e08a1e", "river": "#7a5195", "watermill": "#7a5195", "client": "#999999",
}

func (c chart) svg(r *report) string {
	var rows []result
	mostRate, mostCPU := 1.0, 1.0
	for _, f := range r.Figures {
		if f.Group != c.group || f.Rate.Runs == 0 {
			continue
		}
		rows = append(rows, f)
		mostRate, mostCPU = max(mostRate, f.Rate.Max), max(mostCPU, f.CPU.Median)
	}
	second := nameWidth + panelWidth + panelGap
	width, height := second+panelWidth+panelGap, headHeight+len(rows)*rowHeight+34
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	unit := "units"
	if len(rows) > 0 {
		unit = rows[0].Unit
	}
	fmt.Fprintf(&b, `<text x="%d" y="24" font-weight="bold">%s a second: median, least and most</text>`+"\n", nameWidth, unit)
	fmt.Fprintf(&b, `<text x="%d" y="24" font-weight="bold">µs of processor time each</text>`+"\n", second)
	var seen []string
	for i, f := range rows {
		y := headHeight + i*rowHeight
		bar := func(x float64, w float64, colour string) {
			fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="18" fill="%s"/>`+"\n", x, y, w, colour)
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", nameWidth-8, y+13, html.EscapeString(f.Title))
		scale := panelWidth / mostRate
		bar(nameWidth, f.Rate.Median*scale, colourOf(strings.SplitN(f.ID, ".", 2)[0]))
		fmt.Fprintf(&b, `<path d="M%.1f %dH%.1fM%.1f %dv8M%.1f %dv8" stroke="#222" fill="none"/>`+"\n",
			nameWidth+f.Rate.Min*scale, y+9, nameWidth+f.Rate.Max*scale, nameWidth+f.Rate.Min*scale, y+5, nameWidth+f.Rate.Max*scale, y+5)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`+"\n", nameWidth+f.Rate.Max*scale+6, y+13, count(f.Rate.Median))
		x := float64(second)
		for _, p := range f.ByName {
			w := max(0, p.Micros) * panelWidth / mostCPU
			bar(x, w, colourOf(p.Name))
			x += w
			if p.Micros > 0 && !slices.Contains(seen, p.Name) {
				seen = append(seen, p.Name)
			}
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%.0f</text>`+"\n", x+6, y+13, f.CPU.Median)
	}
	for i, name := range seen {
		x, y := second+i*84, headHeight+len(rows)*rowHeight+8
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="10" height="10" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n", x, y, colourOf(name), x+14, y+10, name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func colourOf(name string) string {
	switch name {
	case "graphile", "bullmq":
		name = "node"
	case "js":
		name = "nats"
	}
	if c, ok := colours[name]; ok {
		return c
	}
	return "#bbbbbb"
}
