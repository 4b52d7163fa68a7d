// Stands for workflow/executor/osspecific/signal_linux.go, which the module proxy's archive of this version lacks:
// the five names that its siblings for other systems define. `build` copies it into a copy of the module.

package osspecific

import (
	"os"
	"syscall"
	"time"

	"github.com/argoproj/argo-workflows/v4/util/errors"
)

// Term is the signal that asks a process to end.
var Term = syscall.SIGTERM

const reapInterval = 100 * time.Millisecond

// CanIgnoreSignal tells which signals are the executor's own and aren't handed on.
func CanIgnoreSignal(signal os.Signal) bool {
	return signal == syscall.SIGCHLD || signal == syscall.SIGURG
}

// Kill signals the process group of a process, or the process alone when it has none any more.
func Kill(pid int, signal syscall.Signal) error {
	if group, err := syscall.Getpgid(pid); err == nil {
		return syscall.Kill(-group, signal)
	}
	return syscall.Kill(pid, signal)
}

// Setpgid makes a command the leader of a process group.
func Setpgid(attributes *syscall.SysProcAttr) {
	attributes.Setpgid = true
}

// Wait reaps every child until this one has ended, as process 1 of a container has to, and gives how it ended.
func Wait(process *os.Process) error {
	pid := process.Pid
	if err := process.Release(); err != nil {
		return err
	}
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return err
		case ended == pid && status.Exited():
			return errors.NewExitErr(status.ExitStatus())
		case ended == pid && status.Signaled():
			return errors.NewExitErr(128 + int(status.Signal()))
		case ended == 0:
			time.Sleep(reapInterval)
		}
	}
}
