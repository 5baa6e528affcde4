// Package config gives every command the same three sources of settings:
// flags, over environment variables (COPRA_DATA_DIR for --data-dir), over a
// TOML file named by --config (key data-dir). A name that no command knows is
// an error wherever it comes from.
package config
