// Command differential gives the verdicts of go-tdx-guest and go-sev-guest on a file of cases.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"
)

// Case is one piece of evidence with all that its verdict depends on.
type Case struct {
	Name       string            `json:"name"`
	Kind       string            `json:"kind"`
	Evidence   []byte            `json:"evidence"`
	Now        int64             `json:"now"`
	Rounds     int               `json:"rounds"`     // of measurement; 0 measures nothing
	Root       []byte            `json:"root"`       // TDX: DER; SNP: the ARK, DER
	Collateral map[string]string `json:"collateral"` // TDX: the members of QuoteCollateralV3
	Key        []byte            `json:"key"`        // SNP: VCEK or VLEK, DER
	CA         []byte            `json:"ca"`         // SNP: ASK or ASVK, DER
	CRL        []byte            `json:"crl"`        // SNP: DER, or nothing
}

// Result is the verdict on one case: no error means that the evidence is accepted.
type Result struct {
	Name         string  `json:"name"`
	Peer         string  `json:"peer"`
	Error        string  `json:"error"`
	Microseconds float64 `json:"microseconds"`
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var cases []Case
	if err := json.Unmarshal(data, &cases); err != nil {
		return err
	}
	results := []Result{}
	for _, each := range cases {
		peer, verify := "go-tdx-guest", verifyTdx
		if each.Kind == "snp" {
			peer, verify = "go-sev-guest", verifySnp
		}
		results = append(results, judge(peer, each, verify))
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}

func judge(peer string, each Case, verify func(Case) error) Result {
	result := Result{Name: each.Name, Peer: peer}
	if err := caught(each, verify); err != nil {
		result.Error = err.Error()
	}
	if each.Rounds > 0 {
		result.Microseconds = median(each, verify)
	}
	return result
}

// A panic is a refusal here: what it says about the library is for the reader of the table.
func caught(each Case, verify func(Case) error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	return verify(each)
}

func median(each Case, verify func(Case) error) float64 {
	took := make([]time.Duration, each.Rounds)
	for i := range took {
		started := time.Now()
		_ = caught(each, verify)
		took[i] = time.Since(started)
	}
	slices.Sort(took)
	return float64(took[len(took)/2].Nanoseconds()) / 1000
}
