// What two applications do with the identities that their sidecars give them, by go-spiffe: web calls db over mutual TLS.
//
// Arguments: the sockets of web and of db, and the SPIFFE ID that db demands of its caller. Prints one JSON object.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/status"
)

type said struct {
	Web     string   `json:"web"`
	DB      string   `json:"db"`
	Bundles []string `json:"bundles"`
	Call    string   `json:"call"`
	JWT     string   `json:"jwt"`
}

func main() {
	told, err := run(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(told)
}

func run(webSocket, dbSocket, demanded string) (*said, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	web, err := source(ctx, webSocket)
	if err != nil {
		return nil, err
	}
	defer web.Close()
	db, err := source(ctx, dbSocket)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	webID, err := web.GetX509SVID()
	if err != nil {
		return nil, err
	}
	dbID, err := db.GetX509SVID()
	if err != nil {
		return nil, err
	}
	told := &said{Web: webID.ID.String(), DB: dbID.ID.String()}
	bundles, err := workloadapi.FetchX509Bundles(ctx, workloadapi.WithAddr("unix://"+webSocket))
	if err != nil {
		return nil, err
	}
	for _, bundle := range bundles.Bundles() {
		told.Bundles = append(told.Bundles, bundle.TrustDomain().Name())
	}
	_, err = workloadapi.FetchJWTBundles(ctx, workloadapi.WithAddr("unix://"+webSocket))
	told.JWT = status.Code(err).String()
	told.Call = call(web, db, dbID.ID, spiffeid.RequireFromString(demanded))
	return told, nil
}

func source(ctx context.Context, socket string) (*workloadapi.X509Source, error) {
	return workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+socket)))
}

// call is what web reads from db, or that one of the two refuses the other.
func call(web, db *workloadapi.X509Source, dbID, demanded spiffeid.ID) string {
	server := tlsconfig.MTLSServerConfig(db, db, tlsconfig.AuthorizeID(demanded))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		return err.Error()
	}
	defer listener.Close()
	go answer(listener)
	client := tlsconfig.MTLSClientConfig(web, web, tlsconfig.AuthorizeID(dbID))
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", listener.Addr().String(), client)
	if err != nil {
		return "refused"
	}
	defer conn.Close()
	words, err := io.ReadAll(conn)
	if err != nil {
		return "refused"
	}
	return string(words)
}

func answer(listener net.Listener) {
	conn, err := listener.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "from db")
}
