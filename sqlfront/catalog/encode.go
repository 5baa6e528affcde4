package catalog

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// formatVersion is the newest format of the JSON documents this code writes
// and reads. A document of a newer format was written by a newer copra.
const formatVersion = 1

type document struct {
	Format int
	Body   json.RawMessage
}

func encode(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("catalog: encode %T: %w", v, err)
	}
	return json.Marshal(document{Format: formatVersion, Body: body})
}

func decode(key, data []byte, v any) error {
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return pgerror.Wrap(err, pgerror.DataCorrupted, "catalog entry %q cannot be read", key)
	}
	if d.Format > formatVersion {
		return pgerror.New(pgerror.FeatureNotSupported, "catalog entry %q has format %d, this copra knows up to %d", key, d.Format, formatVersion).
			WithHint("Upgrade this SQL node.")
	}
	if err := json.Unmarshal(d.Body, v); err != nil {
		return pgerror.Wrap(err, pgerror.DataCorrupted, "catalog entry %q cannot be read", key)
	}
	return nil
}

// columnJSON adds Missing, as text, to what Column's fields give.
type columnJSON struct {
	plainColumn
	MissingText *string `json:",omitempty"`
}

type plainColumn Column

// MarshalJSON implements json.Marshaler.
func (c Column) MarshalJSON() ([]byte, error) {
	out := columnJSON{plainColumn: plainColumn(c)}
	if !c.Missing.IsNull() {
		text := sqltypes.Format(c.Type, c.Missing)
		out.MissingText = &text
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *Column) UnmarshalJSON(data []byte) error {
	var in columnJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*c = Column(in.plainColumn)
	if in.MissingText != nil {
		v, err := sqltypes.ParseText(c.Type, *in.MissingText)
		if err != nil {
			return fmt.Errorf("missing value of column %q: %w", c.Name, err)
		}
		c.Missing = v
	}
	return nil
}

func encodeInt(v int64) []byte { return strconv.AppendInt(nil, v, 10) }

func decodeInt(key, data []byte) (int64, error) {
	v, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil {
		return 0, pgerror.Wrap(err, pgerror.DataCorrupted, "catalog counter %q holds %q", key, data)
	}
	return v, nil
}
