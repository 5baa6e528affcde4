package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

const (
	ruleConfigPath = "/pd/api/v1/config"
	labelRulePath  = ruleConfigPath + "/region-label/rule"
	// ctlFileBytesMax is the largest file that rules are read from.
	ctlFileBytesMax = 1 << 20
)

// newCtlRules shows and changes placement rules.
func newCtlRules(c *ctl) *cobra.Command {
	var group, key string
	var region uint64
	show := func(cmd *cobra.Command, _ []string) error {
		path := ruleConfigPath + "/rules"
		switch {
		case group != "":
			path += "/group/" + url.PathEscape(group)
		case region != 0:
			path += fmt.Sprintf("/region/%d", region)
		case key != "":
			if _, err := parseKey(key, "hex"); err != nil {
				return err
			}
			path += "/key/" + key
		}
		return c.run(cmd, path, printRules)
	}
	cmd := c.command(nil, "rules", "Show and change placement rules: how many replicas, and where", `  copra ctl rules                        show them
  copra ctl rules --region 12            those of one region
  copra ctl rules set -f rule.json       add or replace one, or a list
  copra ctl rules delete pd extra
  copra ctl rules groups
  copra ctl rules bundle save -f all.json
  copra ctl rules bundle load -f all.json

A rule file, for one more replica in zone z3 (keys in hexadecimal, empty: all):

  {"group_id": "pd", "id": "extra", "start_key": "", "end_key": "", "role": "voter", "count": 1,
   "label_constraints": [{"key": "zone", "op": "in", "values": ["z3"]}]}`, cobra.NoArgs, show)
	shown := c.command(cmd, "show", "Show the placement rules", "", cobra.NoArgs, show)
	for _, s := range []*cobra.Command{cmd, shown} {
		s.Flags().StringVar(&group, "group", "", "only those of a group")
		s.Flags().Uint64Var(&region, "region", 0, "only those of a region")
		s.Flags().StringVar(&key, "key", "", "only those at a key, in hexadecimal")
		s.MarkFlagsMutuallyExclusive("group", "region", "key")
	}
	var file string
	set := c.command(cmd, "set -f file", "Add or replace a rule, or a list of rules, all or none", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		rules, err := readList(cmd, file)
		if err != nil {
			return err
		}
		return c.change(cmd, http.MethodPost, ruleConfigPath+"/rules", rules)
	})
	set.Flags().StringVarP(&file, "file", "f", "", "JSON file; - is the standard input (required)")
	c.command(cmd, "delete <group> <id>", "Delete a rule", "", cobra.ExactArgs(2), func(cmd *cobra.Command, args []string) error {
		return c.change(cmd, http.MethodDelete, ruleConfigPath+"/rule/"+url.PathEscape(args[0])+"/"+url.PathEscape(args[1]), nil)
	})
	c.command(cmd, "groups", "List the groups of rules", "", cobra.NoArgs, c.shows(ruleConfigPath+"/rule_groups", printRuleGroups))
	cmd.AddCommand(newCtlBundle(c))
	return cmd
}

// newCtlBundle saves and loads all rules.
func newCtlBundle(c *ctl) *cobra.Command {
	cmd := &cobra.Command{Use: "bundle", Short: "Save and load all rules and groups as one file"}
	var saveFile, loadFile string
	save := c.command(cmd, "save [-f file]", "Save all rules and groups", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		if saveFile == "" {
			return c.run(cmd, ruleConfigPath+"/placement-rule", nil)
		}
		pds, err := endpoints(c.pdList)
		if err != nil {
			return err
		}
		body, err := fetchAny(cmd.Context(), pds, ruleConfigPath+"/placement-rule")
		if err != nil {
			return err
		}
		if err := os.WriteFile(saveFile, body, 0o600); err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "saved in", saveFile)
		return err
	})
	save.Flags().StringVarP(&saveFile, "file", "f", "", "file to write (default: print)")
	partial := false
	load := c.command(cmd, "load -f file", "Replace all rules and groups by those of a file, all or none", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		bundles, err := readList(cmd, loadFile)
		if err != nil {
			return err
		}
		path := ruleConfigPath + "/placement-rule"
		if partial {
			path += "?partial=true"
		}
		return c.change(cmd, http.MethodPost, path, bundles)
	})
	load.Flags().StringVarP(&loadFile, "file", "f", "", "JSON file; - is the standard input (required)")
	load.Flags().BoolVar(&partial, "partial", false, "leave the groups alone that the file does not name")
	return cmd
}

// newCtlLabelRule shows and changes labels of key ranges.
func newCtlLabelRule(c *ctl) *cobra.Command {
	list := c.shows(labelRulePath+"s", printLabelRules)
	cmd := c.command(nil, "label-rule", "Show and change labels of key ranges: what is not to be scheduled or merged", `  copra ctl label-rule
  copra ctl label-rule set -f rule.json
  copra ctl label-rule delete keep

A file that leaves a table's regions where they are for two hours:

  {"id": "keep", "rule_type": "key-range", "labels": [{"key": "schedule", "value": "deny", "ttl": "2h"}],
   "data": [{"start_key": "7480…", "end_key": "7481…"}]}`, cobra.NoArgs, list)
	c.command(cmd, "list", "List the rules", "", cobra.NoArgs, list)
	c.command(cmd, "show <id>", "Show a rule", "", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
		return c.run(cmd, labelRulePath+"/"+url.PathEscape(args[0]), nil)
	})
	var file string
	set := c.command(cmd, "set -f file", "Add or replace a rule, or a list of rules, all or none", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		rules, err := readList(cmd, file)
		if err != nil {
			return err
		}
		return c.change(cmd, http.MethodPatch, labelRulePath+"s", map[string]any{"sets": rules})
	})
	set.Flags().StringVarP(&file, "file", "f", "", "JSON file; - is the standard input (required)")
	c.command(cmd, "delete <id>", "Delete a rule", "", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
		return c.change(cmd, http.MethodDelete, labelRulePath+"/"+url.PathEscape(args[0]), nil)
	})
	return cmd
}

// readList reads a JSON object or a list of them from a file.
func readList(cmd *cobra.Command, file string) ([]json.RawMessage, error) {
	if file == "" {
		return nil, errors.New("-f is missing: name a JSON file, or - for the standard input")
	}
	var in io.Reader = cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, ctlFileBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > ctlFileBytesMax {
		return nil, fmt.Errorf("%s has more than %d bytes", file, ctlFileBytesMax)
	}
	list := []json.RawMessage{raw}
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '[' {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for i, one := range list {
		var object map[string]any
		if err := json.Unmarshal(one, &object); err != nil {
			return nil, fmt.Errorf("%s: part %d is no JSON object: %w", file, i, err)
		}
		if object == nil {
			return nil, fmt.Errorf("%s: part %d is null", file, i)
		}
	}
	return list, nil
}

func printRules(w io.Writer, body []byte) error {
	var reply []struct {
		Group       string   `json:"group_id"`
		ID          string   `json:"id"`
		Index       int      `json:"index"`
		Override    bool     `json:"override"`
		Start       string   `json:"start_key"`
		End         string   `json:"end_key"`
		Role        string   `json:"role"`
		Count       int      `json:"count"`
		Locations   []string `json:"location_labels"`
		Isolation   string   `json:"isolation_level"`
		Constraints []struct {
			Key    string   `json:"key"`
			Op     string   `json:"op"`
			Values []string `json:"values"`
		} `json:"label_constraints"`
	}
	if err := decode(body, &reply); err != nil {
		return err
	}
	return table(w, "GROUP\tRULE\tINDEX\tREPLICAS\tON STORES WITH\tAPART BY\tSTART\tEND", func(t io.Writer) {
		for _, r := range reply {
			with := make([]string, len(r.Constraints))
			for i, k := range r.Constraints {
				with[i] = strings.TrimSpace(k.Key + " " + k.Op + " " + strings.Join(k.Values, "|"))
			}
			apart := strings.Join(r.Locations, ",")
			if r.Isolation != "" {
				apart += " (must: " + r.Isolation + ")"
			}
			index := fmt.Sprint(r.Index)
			if r.Override {
				index += " override"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%d %s\t%s\t%s\t%s\t%s\n", r.Group, r.ID, index, r.Count, r.Role, strings.Join(with, "; "), apart, r.Start, r.End)
		}
	})
}

func printRuleGroups(w io.Writer, body []byte) error {
	var reply []struct {
		ID       string `json:"id"`
		Index    int    `json:"index"`
		Override bool   `json:"override"`
	}
	if err := decode(body, &reply); err != nil {
		return err
	}
	return table(w, "GROUP\tINDEX\tOVERRIDE", func(t io.Writer) {
		for _, g := range reply {
			fmt.Fprintf(t, "%s\t%d\t%v\n", g.ID, g.Index, g.Override)
		}
	})
}

func printLabelRules(w io.Writer, body []byte) error {
	var reply []struct {
		ID     string `json:"id"`
		Index  int    `json:"index"`
		Labels []struct {
			Key   string `json:"key"`
			Value string `json:"value"`
			TTL   string `json:"ttl"`
		} `json:"labels"`
		Data []struct {
			Start string `json:"start_key"`
			End   string `json:"end_key"`
		} `json:"data"`
	}
	if err := decode(body, &reply); err != nil {
		return err
	}
	return table(w, "RULE\tINDEX\tLABELS\tFOR\tSTART\tEND", func(t io.Writer) {
		for _, r := range reply {
			var labels, ttls []string
			for _, l := range r.Labels {
				if l.TTL == "" {
					l.TTL = "ever"
				}
				labels, ttls = append(labels, l.Key+"="+l.Value), append(ttls, l.TTL)
			}
			for _, d := range r.Data {
				fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n", r.ID, r.Index, strings.Join(labels, ","), strings.Join(ttls, ","), d.Start, d.End)
			}
		}
	})
}
