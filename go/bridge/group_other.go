//go:build !linux

package bridge

import "syscall"

// ownGroup puts a process into a group of its own, so that signals of the terminal are not for it.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
