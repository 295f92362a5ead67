package cmd_test

import (
	"fmt"
	"strings"
)

// soakCSV is the samples as a table.
func soakCSV(samples []sample) string {
	var b strings.Builder
	b.WriteString("seconds," + strings.Join(soakColumns, ",") + "\n")
	for _, s := range samples {
		fmt.Fprintf(&b, "%.1f", s.at.Seconds())
		for _, v := range s.figures {
			fmt.Fprintf(&b, ",%.1f", v)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// soakSVG draws them: memory, goroutines, files and connections, each from
// nothing up, so that a slope is seen as what it is.
func soakSVG(samples []sample) string {
	const (
		width, height, left, gap = 760, 170, 60, 46
		right                    = 180
	)
	panels := []struct {
		name    string
		columns []int
	}{{"MiB of memory", []int{0, 1, 2}}, {"goroutines", []int{3, 4, 5}}, {"open files, and connections to Postgres", []int{6, 7, 8, 9}}}
	colours := []string{"#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd"}
	last := samples[len(samples)-1].at.Seconds()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		left+width+right, len(panels)*(height+gap)+10)
	for p, panel := range panels {
		most := 1.0
		for _, s := range samples {
			for _, c := range panel.columns {
				most = max(most, s.figures[c]*1.1)
			}
		}
		top := p*(height+gap) + 24
		fmt.Fprintf(&b, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", left, top-8, panel.name)
		fmt.Fprintf(&b, `<path d="M%d %dv%dh%d" fill="none" stroke="#888"/>`+"\n", left, top, height, width)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%.0f</text><text x="%d" y="%d" text-anchor="end">0</text>`+"\n",
			left-6, top+10, most, left-6, top+height)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%.0f s</text>`+"\n", left+width, top+height+15, last)
		for i, c := range panel.columns {
			fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="`, colours[i])
			for _, s := range samples {
				x := float64(left) + float64(width)*s.at.Seconds()/max(last, 0.001)
				fmt.Fprintf(&b, "%.1f,%.1f ", x, float64(top+height)-float64(height)*s.figures[c]/most)
			}
			b.WriteString(`"/>` + "\n")
			fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", left+width+8, top+14+16*i, colours[i], soakColumns[c])
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}
