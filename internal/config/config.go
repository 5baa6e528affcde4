package config

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const envPrefix = "COPRA_"

// FileFlag is the flag that names the TOML file.
const FileFlag = "config"

// Apply fills the flags of cmd that were not given on the command line from
// the environment and then from the file. environ is os.Environ().
func Apply(cmd *cobra.Command, environ []string) error {
	env, err := fromEnvironment(cmd.Root(), environ)
	if err != nil {
		return err
	}
	path, err := cmd.Flags().GetString(FileFlag)
	if err != nil {
		return nil // a command without settings
	}
	if path == "" {
		path = env[FileFlag]
	}
	file, err := fromFile(cmd, path)
	if err != nil {
		return err
	}
	var firstErr error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || firstErr != nil {
			return
		}
		source, value, ok := envPrefix+envName(f.Name), env[f.Name], env[f.Name] != ""
		if !ok {
			source, value, ok = path+": "+f.Name, file[f.Name], false
			_, ok = file[f.Name]
		}
		if !ok {
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			firstErr = fmt.Errorf("setting %s = %q: %w", source, value, err)
		}
	})
	return firstErr
}

func envName(flag string) string { return strings.ToUpper(strings.ReplaceAll(flag, "-", "_")) }

// fromEnvironment returns the COPRA_ variables by flag name. One that is no
// setting of any command is refused: it is a typing error.
func fromEnvironment(root *cobra.Command, environ []string) (map[string]string, error) {
	known := make(map[string]string)
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		add := func(f *pflag.Flag) { known[envName(f.Name)] = f.Name }
		c.Flags().VisitAll(add)
		c.PersistentFlags().VisitAll(add)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	out := make(map[string]string)
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		flag, ok := known[strings.TrimPrefix(name, envPrefix)]
		if !ok {
			return nil, fmt.Errorf("environment variable %s is no setting of copra (run with --help for the list of flags)", name)
		}
		out[flag] = value
	}
	return out, nil
}

// fromFile reads a flat TOML table of flag names.
func fromFile(cmd *cobra.Command, path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("settings file: %w", err)
	}
	var table map[string]any
	if err := toml.Unmarshal(raw, &table); err != nil {
		return nil, fmt.Errorf("settings file %s: %w", path, err)
	}
	out := make(map[string]string, len(table))
	var unknown []string
	for key, value := range table {
		if cmd.Flags().Lookup(key) == nil || key == FileFlag {
			unknown = append(unknown, key)
			continue
		}
		text, err := tomlText(value)
		if err != nil {
			return nil, fmt.Errorf("settings file %s: %s: %w", path, key, err)
		}
		out[key] = text
	}
	if len(unknown) > 0 {
		sort.Strings(unknown)
		return nil, fmt.Errorf("settings file %s: unknown setting %s (copra %s --help lists the settings)", path, strings.Join(unknown, ", "), cmd.Name())
	}
	return out, nil
}

func tomlText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool, int64, float64:
		return fmt.Sprint(v), nil
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			text, err := tomlText(item)
			if err != nil {
				return "", err
			}
			parts[i] = text
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("a value of type %T is not a setting", v)
}
