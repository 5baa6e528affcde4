package copyfmt

import (
	"strings"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
)

// Options are COPY's, checked.
type Options struct {
	Binary        bool
	CSV           bool
	Delimiter     byte
	Null          string
	Header        bool
	HeaderMatch   bool // the header must name the columns
	Quote, Escape byte // CSV only
	// by column of the list that is copied
	ForceQuote, ForceNotNull, ForceNull []bool
}

// ParseOptions checks COPY's options. columns are the names of the columns
// copied; from is the direction.
func ParseOptions(list []ast.CopyOption, columns []string, from bool) (*Options, error) {
	p := optionParser{from: from, columns: columns, given: map[string]bool{}, out: &Options{}}
	for _, o := range list {
		if p.given[o.Name] {
			return nil, pgerror.New(pgerror.SyntaxError, "conflicting or redundant options").At(o.Position())
		}
		p.given[o.Name] = true
		if err := p.option(o); err != nil {
			if err.Position == 0 && positioned[o.Name] {
				err.Position = o.Position()
			}
			return nil, err
		}
	}
	return p.finish()
}

// positioned are the options whose errors PostgreSQL points at.
var positioned = map[string]bool{"format": true, "encoding": true, "oids": true}

type optionParser struct {
	from    bool
	columns []string
	given   map[string]bool
	out     *Options
}

func (p *optionParser) option(o ast.CopyOption) *pgerror.Error {
	switch o.Name {
	case "format":
		return p.format(o.Value)
	case "delimiter":
		return p.char(o, &p.out.Delimiter, "COPY delimiter must be a single one-byte character")
	case "null":
		if strings.ContainsAny(o.Value, "\r\n") {
			return pgerror.New(pgerror.InvalidParameterValue, "COPY null representation cannot use newline or carriage return")
		}
		p.out.Null = o.Value
	case "header":
		return p.header(o.Value)
	case "quote":
		return p.char(o, &p.out.Quote, "COPY quote must be a single one-byte character")
	case "escape":
		return p.char(o, &p.out.Escape, "COPY escape must be a single one-byte character")
	case "force_quote":
		return p.columnList(o, &p.out.ForceQuote, "FORCE_QUOTE")
	case "force_not_null":
		return p.columnList(o, &p.out.ForceNotNull, "FORCE_NOT_NULL")
	case "force_null":
		return p.columnList(o, &p.out.ForceNull, "FORCE_NULL")
	case "encoding":
		switch strings.ToLower(strings.ReplaceAll(o.Value, "-", "")) {
		case "utf8", "unicode":
		default:
			return pgerror.Unsupported("COPY with ENCODING '" + o.Value + "'")
		}
	case "freeze": // a hint about PostgreSQL's storage
	case "oids":
		return pgerror.Unsupported("COPY with OIDS")
	default:
		return pgerror.New(pgerror.SyntaxError, "option \"%s\" not recognized", o.Name).At(o.Position())
	}
	return nil
}

func (p *optionParser) format(v string) *pgerror.Error {
	switch strings.ToLower(v) {
	case "text":
	case "csv":
		p.out.CSV = true
	case "binary":
		p.out.Binary = true
	default:
		return pgerror.New(pgerror.InvalidParameterValue, "COPY format \"%s\" not recognized", v)
	}
	return nil
}

func (p *optionParser) char(o ast.CopyOption, to *byte, msg string) *pgerror.Error {
	if len(o.Value) != 1 {
		code := pgerror.InvalidParameterValue
		if o.Name != "escape" {
			code = pgerror.FeatureNotSupported
		}
		return pgerror.New(code, "%s", msg)
	}
	*to = o.Value[0]
	return nil
}

func (p *optionParser) header(v string) *pgerror.Error {
	if strings.EqualFold(v, "match") {
		if !p.from {
			return pgerror.New(pgerror.FeatureNotSupported, "cannot use \"match\" with HEADER in COPY TO")
		}
		p.out.Header, p.out.HeaderMatch = true, true
		return nil
	}
	on, ok := v == "", true
	if v != "" {
		on, ok = sqltypes.ParseBool(v)
	}
	if !ok {
		return pgerror.New(pgerror.SyntaxError, "header requires a Boolean value or \"match\"")
	}
	p.out.Header = on
	return nil
}

func (p *optionParser) columnList(o ast.CopyOption, to *[]bool, what string) *pgerror.Error {
	*to = make([]bool, len(p.columns))
	if o.Value == "*" {
		for i := range *to {
			(*to)[i] = true
		}
		return nil
	}
	for _, name := range o.List {
		found := false
		for i, c := range p.columns {
			if c == name {
				(*to)[i], found = true, true
			}
		}
		if !found {
			return pgerror.New(pgerror.InvalidColumnReference, "%s column \"%s\" not referenced by COPY", what, name)
		}
	}
	return nil
}

// finish fills in defaults and checks what depends on several options.
func (p *optionParser) finish() (*Options, error) {
	o := p.out
	if o.Binary {
		return o, p.binaryOnly()
	}
	if !p.given["delimiter"] {
		o.Delimiter = '\t'
		if o.CSV {
			o.Delimiter = ','
		}
	}
	if !p.given["null"] && !o.CSV {
		o.Null = `\N`
	}
	if !o.CSV {
		return o, p.textOnly()
	}
	if !p.given["quote"] {
		o.Quote = '"'
	}
	if !p.given["escape"] {
		o.Escape = o.Quote
	}
	switch {
	case o.Delimiter == '\n' || o.Delimiter == '\r':
		return nil, pgerror.New(pgerror.InvalidParameterValue, "COPY delimiter cannot be newline or carriage return")
	case o.Delimiter == o.Quote:
		return nil, pgerror.New(pgerror.InvalidParameterValue, "COPY delimiter and quote must be different")
	case strings.IndexByte(o.Null, o.Delimiter) >= 0:
		return nil, pgerror.New(pgerror.FeatureNotSupported, "COPY delimiter must not appear in the NULL specification")
	case strings.IndexByte(o.Null, o.Quote) >= 0:
		return nil, pgerror.New(pgerror.FeatureNotSupported, "CSV quote character must not appear in the NULL specification")
	case o.ForceQuote != nil && p.from:
		return nil, pgerror.New(pgerror.FeatureNotSupported, "COPY force quote only available using COPY TO")
	case (o.ForceNull != nil || o.ForceNotNull != nil) && !p.from:
		return nil, pgerror.New(pgerror.FeatureNotSupported, "COPY force null and force not null only available using COPY FROM")
	}
	return o, nil
}

// binaryOnly refuses what the binary format has no use for.
func (p *optionParser) binaryOnly() error {
	for _, name := range []string{"delimiter", "null"} {
		if p.given[name] {
			return pgerror.New(pgerror.SyntaxError, "cannot specify %s in BINARY mode", strings.ToUpper(name))
		}
	}
	if p.out.Header {
		return pgerror.New(pgerror.FeatureNotSupported, "cannot specify HEADER in BINARY mode")
	}
	return p.csvOptionsOnly()
}

// csvOptionsOnly refuses the options of CSV for the other formats.
func (p *optionParser) csvOptionsOnly() error {
	for _, name := range []string{"quote", "escape", "force_quote", "force_not_null", "force_null"} {
		if p.given[name] {
			return pgerror.New(pgerror.FeatureNotSupported, "COPY %s available only in CSV mode", strings.ReplaceAll(name, "_", " "))
		}
	}
	return nil
}

func (p *optionParser) textOnly() error {
	o := p.out
	if err := p.csvOptionsOnly(); err != nil {
		return err
	}
	switch {
	case strings.IndexByte("\\.abcdefghijklmnopqrstuvwxyz0123456789", o.Delimiter) >= 0:
		return pgerror.New(pgerror.InvalidParameterValue, "COPY delimiter cannot be \"%c\"", o.Delimiter)
	case o.Delimiter == '\n' || o.Delimiter == '\r':
		return pgerror.New(pgerror.InvalidParameterValue, "COPY delimiter cannot be newline or carriage return")
	case strings.IndexByte(o.Null, o.Delimiter) >= 0:
		return pgerror.New(pgerror.FeatureNotSupported, "COPY delimiter must not appear in the NULL specification")
	}
	return nil
}
