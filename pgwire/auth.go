package pgwire

import (
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront"
)

const (
	mechanismSCRAM = "SCRAM-SHA-256"
)

// authenticate runs SCRAM-SHA-256 (RFC 5802, RFC 7677) against the user's
// verifier. A user without one is trusted; whether such users may connect at
// all was decided when the server was configured.
func (c *conn) authenticate(creds sqlfront.Credentials) error {
	if creds.Verifier == "" {
		return nil
	}
	stored, err := parseVerifier(creds.Verifier)
	if err != nil {
		return pgerror.Wrap(err, pgerror.InternalError, "the stored password of role %q is unreadable", creds.User)
	}
	// SCRAM's own user name is empty or "*" in PostgreSQL's use: the one of the
	// startup message counts.
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return stored, nil })
	if err != nil {
		return pgerror.From(err)
	}
	c.backend.Send(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{mechanismSCRAM}})
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.backend.SetAuthType(pgproto3.AuthTypeSASL); err != nil {
		return pgerror.From(err)
	}
	msg, err := c.receiveAuth()
	if err != nil {
		return err
	}
	first, ok := msg.(*pgproto3.SASLInitialResponse)
	if !ok || first.AuthMechanism != mechanismSCRAM {
		return pgerror.New(pgerror.ProtocolViolation, "client selected an invalid SASL authentication mechanism")
	}
	conv := server.NewConversation()
	reply, err := conv.Step(string(first.Data))
	if err != nil {
		return passwordError(creds.User)
	}
	c.backend.Send(&pgproto3.AuthenticationSASLContinue{Data: []byte(reply)})
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.backend.SetAuthType(pgproto3.AuthTypeSASLContinue); err != nil {
		return pgerror.From(err)
	}
	if msg, err = c.receiveAuth(); err != nil {
		return err
	}
	second, ok := msg.(*pgproto3.SASLResponse)
	if !ok {
		return pgerror.New(pgerror.ProtocolViolation, "expected SASL response, got %T", msg)
	}
	reply, err = conv.Step(string(second.Data))
	if err != nil || !conv.Valid() {
		return passwordError(creds.User)
	}
	c.backend.Send(&pgproto3.AuthenticationSASLFinal{Data: []byte(reply)})
	return nil
}

func (c *conn) receiveAuth() (pgproto3.FrontendMessage, error) {
	msg, err := c.backend.Receive()
	if err != nil {
		var ne net.Error
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &ne) {
			return nil, errGone
		}
		return nil, pgerror.Wrap(err, pgerror.ProtocolViolation, "malformed authentication message: %v", err)
	}
	return msg, nil
}

func passwordError(user string) error {
	return pgerror.New(pgerror.InvalidPassword, "password authentication failed for user %q", user)
}

// parseVerifier reads SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>,
// PostgreSQL's form, all but the iterations in base64.
func parseVerifier(text string) (scram.StoredCredentials, error) {
	bad := errors.New("pgwire: malformed SCRAM verifier")
	parts := strings.Split(text, "$")
	if len(parts) != 3 || parts[0] != mechanismSCRAM {
		return scram.StoredCredentials{}, bad
	}
	iterations, salt, ok1 := strings.Cut(parts[1], ":")
	storedKey, serverKey, ok2 := strings.Cut(parts[2], ":")
	n, err := strconv.Atoi(iterations)
	if !ok1 || !ok2 || err != nil || n <= 0 {
		return scram.StoredCredentials{}, bad
	}
	rawSalt, err1 := base64.StdEncoding.DecodeString(salt)
	stored, err2 := base64.StdEncoding.DecodeString(storedKey)
	serverRaw, err3 := base64.StdEncoding.DecodeString(serverKey)
	if err := errors.Join(err1, err2, err3); err != nil {
		return scram.StoredCredentials{}, bad
	}
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(rawSalt), Iters: n}, StoredKey: stored, ServerKey: serverRaw,
	}, nil
}

// NewVerifier makes the verifier that PostgreSQL would store for a password.
func NewVerifier(password string, salt []byte, iterations int) (string, error) {
	client, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		return "", err
	}
	creds, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: iterations})
	if err != nil {
		return "", err
	}
	enc := base64.StdEncoding.EncodeToString
	return mechanismSCRAM + "$" + strconv.Itoa(iterations) + ":" + enc(salt) + "$" + enc(creds.StoredKey) + ":" + enc(creds.ServerKey), nil
}
