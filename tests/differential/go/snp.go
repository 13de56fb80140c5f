package main

import (
	"crypto/x509"
	"time"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"
)

// The policy is the strict one of toposeal as far as the library can express it.
func verifySnp(each Case) error {
	report, err := abi.ReportToProto(each.Evidence)
	if err != nil {
		return err
	}
	roots, err := roots(each)
	if err != nil {
		return err
	}
	attestation := &spb.Attestation{Report: report, CertificateChain: &spb.CertificateChain{
		VcekCert: each.Key, VlekCert: each.Key, AskCert: each.CA, ArkCert: each.Root,
	}}
	options := &verify.Options{
		CheckRevocations:    len(each.CRL) > 0,
		DisableCertFetching: true,
		Now:                 time.Unix(each.Now, 0),
		TrustedRoots:        roots,
	}
	if err := verify.SnpAttestation(attestation, options); err != nil {
		return err
	}
	vmpl := 0
	return validate.SnpAttestation(attestation, &validate.Options{
		GuestPolicy: abi.SnpPolicy{SMT: true},
		VMPL:        &vmpl,
		PlatformInfo: &abi.SnpPlatformInfo{
			SMTEnabled: true, TSMEEnabled: true, TIOEnabled: true, // may be
			AliasCheckComplete: true, // must be
		},
	})
}

// One root for every product line: which line it is for is the library's to find out.
func roots(each Case) (map[string][]*trust.AMDRootCerts, error) {
	var parsed [2]*x509.Certificate
	for i, der := range [][]byte{each.CA, each.Root} {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		parsed[i] = certificate
	}
	var crl *x509.RevocationList
	if len(each.CRL) > 0 {
		list, err := x509.ParseRevocationList(each.CRL)
		if err != nil {
			return nil, err
		}
		crl = list
	}
	found := map[string][]*trust.AMDRootCerts{}
	for _, line := range []string{"Milan", "Genoa", "Turin"} {
		found[line] = []*trust.AMDRootCerts{{
			ProductLine:  line,
			ProductCerts: &trust.ProductCerts{Ask: parsed[0], Asvk: parsed[0], Ark: parsed[1]},
			CRL:          crl,
		}}
	}
	return found, nil
}
