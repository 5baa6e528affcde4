package sqlfront

import (
	"math"
	"strconv"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
)

// set runs SET and RESET.
func (s *session) set(st *ast.Set) (string, error) {
	tag := "SET"
	if st.Values == nil && st.Tx == nil {
		tag = "RESET"
	}
	switch {
	case st.Name == "all":
		s.settings.ResetAll()
		return tag, nil
	case st.Name == "transaction":
		if s.txn == nil || !s.txn.explicit {
			s.notice("WARNING", pgerror.NoActiveSQLTransaction, "SET TRANSACTION can only be used in transaction blocks")
			return tag, nil
		}
		return tag, s.characteristics(st.Tx)
	case st.Name == "session characteristics":
		return tag, s.sessionCharacteristics(st.Tx)
	}
	values, err := setValues(st)
	if err != nil {
		return tag, err
	}
	if st.Local && s.txn == nil {
		s.notice("WARNING", pgerror.NoActiveSQLTransaction, "SET LOCAL can only be used in transaction blocks")
	}
	if handled, err := s.setTransactionMode(st.Name, values); handled || err != nil {
		return tag, err
	}
	return tag, s.settings.Set(st.Name, values, st.Local)
}

// setTransactionMode handles SET transaction_isolation and the like, which are
// about the transaction that is open.
func (s *session) setTransactionMode(name string, values []string) (bool, error) {
	if s.txn == nil || !s.txn.explicit || len(values) != 1 {
		return false, nil
	}
	switch name {
	case "transaction_isolation":
		return true, s.characteristics(&ast.Begin{Isolation: values[0]})
	case "transaction_read_only":
		ro, ok := sqltypes.ParseBool(values[0])
		if !ok {
			return true, pgerror.New(pgerror.InvalidParameterValue, "parameter \"%s\" requires a Boolean value", name)
		}
		return true, s.characteristics(&ast.Begin{ReadOnly: &ro})
	}
	return false, nil
}

func (s *session) sessionCharacteristics(b *ast.Begin) error {
	if b.Isolation != "" {
		if err := s.settings.Set("default_transaction_isolation", []string{b.Isolation}, false); err != nil {
			return err
		}
	}
	if b.ReadOnly != nil {
		return s.settings.Set("default_transaction_read_only", []string{strconv.FormatBool(*b.ReadOnly)}, false)
	}
	return nil
}

// setValues are SET's values as text; nil = DEFAULT.
func setValues(st *ast.Set) ([]string, error) {
	var out []string
	for _, e := range st.Values {
		switch x := e.(type) {
		case *ast.StringLit:
			out = append(out, x.Value)
		case *ast.IntLit:
			out = append(out, strconv.FormatInt(x.Value, 10))
		case *ast.NumLit:
			out = append(out, x.Text)
		case *ast.BoolLit:
			out = append(out, strconv.FormatBool(x.Value))
		case *ast.Cast: // SET TIME ZONE INTERVAL '…' HOUR TO MINUTE
			zone, err := intervalZone(x)
			if err != nil {
				return nil, err
			}
			out = append(out, zone)
		default:
			return nil, pgerror.New(pgerror.SyntaxError, "SET %s takes constants only", st.Name).At(e.Position())
		}
	}
	return out, nil
}

// intervalZone is the zone that an interval east of Greenwich names.
func intervalZone(x *ast.Cast) (string, error) {
	lit, ok := x.X.(*ast.StringLit)
	if !ok || len(x.To.Names) == 0 || x.To.Names[len(x.To.Names)-1] != "interval" {
		return "", pgerror.New(pgerror.SyntaxError, "SET takes constants only").At(x.Position())
	}
	text := lit.Value
	if x.To.IntervalFields == 1<<10 { // a bare number is of hours
		text += " hours"
	}
	iv, err := sqltypes.ParseInterval(text, sqltypes.Interval)
	if err != nil {
		return "", positioned(err, lit.Position())
	}
	if iv.Months != 0 || iv.Days != 0 {
		return "", pgerror.New(pgerror.InvalidParameterValue, "cannot specify months or days in time zone interval").At(lit.Position())
	}
	return strconv.FormatFloat(float64(iv.Micros)/3.6e9, 'f', -1, 64), nil
}

// show returns a setting's spelled name and value.
func (s *session) show(name string) (spelled, value string, err error) {
	switch name {
	case "session_authorization":
		return name, s.user, nil
	case "transaction_isolation":
		if s.txn != nil {
			return name, s.txn.isolation(), nil
		}
		name = "default_transaction_isolation"
		_, value, err = s.settings.Show(name)
		return "transaction_isolation", value, err
	case "transaction_read_only":
		on := s.settings.Bool("default_transaction_read_only")
		if s.txn != nil {
			on = s.txn.readOnly
		}
		if on {
			return name, "on", nil
		}
		return name, "off", nil
	}
	return s.settings.Show(name)
}

func (s *session) runShow(st *ast.Show) (Result, error) {
	if st.Name != "all" {
		name, value, err := s.show(st.Name)
		if err != nil {
			return nil, err
		}
		cols := []Column{{Name: name, Type: sqltypes.Text}}
		return datumRows(cols, [][]sqltypes.Datum{{sqltypes.NewString(value)}}, "SHOW"), nil
	}
	cols := []Column{{Name: "name", Type: sqltypes.Text}, {Name: "setting", Type: sqltypes.Text}, {Name: "description", Type: sqltypes.Text}}
	var rows [][]sqltypes.Datum
	for _, r := range s.settings.All() {
		rows = append(rows, []sqltypes.Datum{sqltypes.NewString(r.Name), sqltypes.NewString(r.Value), sqltypes.NewString(r.Description)})
	}
	return datumRows(cols, rows, "SHOW"), nil
}

// sequenceMax is the largest value of a serial or identity column.
func sequenceMax(t sqltypes.Type) int64 {
	switch t.OID {
	case sqltypes.OIDInt2:
		return math.MaxInt16
	case sqltypes.OIDInt4:
		return math.MaxInt32
	}
	return math.MaxInt64
}
