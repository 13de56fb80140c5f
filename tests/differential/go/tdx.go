package main

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/validate"
	"github.com/google/go-tdx-guest/verify"
)

// Everything that the library can check is asked for: its defaults fetch no collateral and no list.
func verifyTdx(each Case) error {
	quote, err := abi.QuoteToProto(each.Evidence)
	if err != nil {
		return err
	}
	root, err := x509.ParseCertificate(each.Root)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	options := &verify.Options{
		CheckRevocations: true,
		GetCollateral:    true,
		Getter:           service(each.Collateral),
		Now:              time.Unix(each.Now, 0),
		TrustedRoots:     roots,
	}
	if err := verify.TdxQuote(quote, options); err != nil {
		return err
	}
	return validate.TdxQuote(quote, &validate.Options{})
}

// service answers as Intel's Provisioning Certification Service would, from one collateral object.
type service map[string]string

func (s service) Get(address string) (map[string][]string, []byte, error) {
	switch {
	case strings.Contains(address, "/tcb?"):
		body := fmt.Sprintf(`{"tcbInfo":%s,"signature":"%s"}`, s["tcb_info"], s["tcb_info_signature"])
		return s.header("Tcb-Info-Issuer-Chain", "tcb_info_issuer_chain"), []byte(body), nil
	case strings.Contains(address, "/qe/identity"):
		body := fmt.Sprintf(`{"enclaveIdentity":%s,"signature":"%s"}`, s["qe_identity"], s["qe_identity_signature"])
		return s.header("Sgx-Enclave-Identity-Issuer-Chain", "qe_identity_issuer_chain"), []byte(body), nil
	case strings.Contains(address, "/pckcrl?"):
		body, err := hex.DecodeString(s["pck_crl"])
		return s.header("Sgx-Pck-Crl-Issuer-Chain", "pck_crl_issuer_chain"), body, err
	default: // the root's distribution point
		body, err := hex.DecodeString(s["root_ca_crl"])
		return nil, body, err
	}
}

func (s service) header(name, member string) map[string][]string {
	return map[string][]string{name: {url.QueryEscape(s[member])}}
}
