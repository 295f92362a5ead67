// Package boot is what the three programs have in common: flags and OBS_…
// variables become a [Config], a Config becomes connections, and the API, the
// relay and the worker become parts of one process that stop in order.
//
// A main calls [Main] with its run function. That calls [Parse], [Load],
// [Connect], and gives a [Stages] the parts that this process is to have:
// [StartAPI], [StartRelay], [StartWorker]. It is the only package that reads
// the environment.
package boot
