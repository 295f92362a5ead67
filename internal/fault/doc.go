// Package fault marks the lines on which the fault tests let a process die:
// [At]. Built without the tag `faults`, as every release is, At is empty and
// nothing of a mark is left in the program. With the tag, a plan that
// cmd/internal/boot reads from OBS_FAULTS says what happens where.
package fault
