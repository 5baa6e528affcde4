package spill

import (
	"errors"
	"syscall"

	"github.com/copradb/copra/internal/pgerror"
)

// ioError says what could not be done with a temporary file, and why.
func ioError(err error, what, path string) error {
	if err == nil {
		return nil
	}
	var coded *pgerror.Error
	if errors.As(err, &coded) {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return pgerror.Wrap(err, pgerror.DiskFull, "could not %s temporary file \"%s\": no space left on device", what, path).
			WithHint("The statement needs more memory than it may have and keeps rows on disk. Free some space, " +
				"have it read fewer rows, or raise copra.statement_memory.")
	}
	return pgerror.Wrap(err, pgerror.IOError, "could not %s temporary file \"%s\": %v", what, path, err)
}

// corrupt is the error of a file that is not what was written.
func corrupt(path string, frame int, why string) error {
	return pgerror.New(pgerror.DataCorrupted, "temporary file \"%s\" is damaged: frame %d %s", path, frame, why).
		WithHint("The statement can be run again. Check the disk that has the file.")
}

// ended is the error of who uses a file behind Space.Close.
func ended(path string) error {
	return pgerror.New(pgerror.QueryCanceled, "the statement of temporary file \"%s\" has ended", path)
}
