package broker

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

func (c TLSConfig) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, err
	}
	out := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if c.ClientCA != "" {
		pem, err := os.ReadFile(c.ClientCA)
		if err != nil {
			return nil, err
		}
		out.ClientCAs = x509.NewCertPool()
		if !out.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("client_ca %s holds no certificate", c.ClientCA)
		}
		out.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return out, nil
}
