package pd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// formatVersion is the format of the data directory. It grows when an older
// copra could not read what a newer one wrote.
const formatVersion = 1

const formatFile = "copra-pd.json"

// dataFormat is the content of the format file.
type dataFormat struct {
	Format int `json:"format"`
	// Members is how many members the cluster had when this one last looked. A
	// member that is alone starts with a short election timeout.
	Members int `json:"members"`
	// Removed says that the cluster has removed this member: its data is of no
	// more use.
	Removed bool `json:"removed,omitempty"`
	// Forced says that the last start made this member the only one.
	Forced bool `json:"forced,omitempty"`
}

// openFormat checks the data directory's format, or marks a new directory.
func openFormat(dir string, members int) (dataFormat, error) {
	path := filepath.Join(dir, formatFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return dataFormat{}, fmt.Errorf("pd: create the data directory: %w", err)
		}
		f := dataFormat{Format: formatVersion, Members: members}
		return f, writeFormat(dir, f)
	}
	if err != nil {
		return dataFormat{}, fmt.Errorf("pd: read the data directory's format: %w", err)
	}
	var f dataFormat
	if err := json.Unmarshal(raw, &f); err != nil || f.Format < 1 {
		return dataFormat{}, fmt.Errorf("pd: %s is damaged: it holds %q", path, raw)
	}
	if f.Format > formatVersion {
		return dataFormat{}, fmt.Errorf("pd: %s has format %d, this copra reads up to %d: use a newer copra",
			dir, f.Format, formatVersion)
	}
	return f, nil
}

// writeFormat replaces the format file atomically and durably.
func writeFormat(dir string, f dataFormat) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, formatFile+".*")
	if err != nil {
		return fmt.Errorf("pd: write the data directory's format: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(append(raw, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(dir, formatFile))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("pd: write the data directory's format: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
