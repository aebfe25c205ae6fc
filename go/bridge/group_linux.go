package bridge

import "syscall"

// ownGroup puts a process into a group of its own, so that signals of the terminal are not for it, and has the
// kernel drain it when this program is killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
