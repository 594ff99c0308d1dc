package serde

import (
	"bytes"
	"net/netip"
	"unsafe"
)

// parseAddr reads an inet that names one host. One with a shorter mask is out of
// the type's range.
func parseAddr(v *netip.Addr, src []byte) error {
	if bytes.IndexByte(src, '/') >= 0 {
		p, err := netip.ParsePrefix(string(src))
		switch {
		case err != nil:
			return ErrSyntax
		case !p.IsSingleIP():
			return ErrRange
		}
		*v = p.Addr()
		return nil
	}
	// ParseAddr keeps its argument only in an error, which stays here, and in a zone,
	// which no inet has.
	a, err := netip.ParseAddr(unsafe.String(unsafe.SliceData(src), len(src)))
	if err != nil || a.Zone() != "" {
		return ErrSyntax
	}
	*v = a
	return nil
}

// parsePrefix reads an inet or cidr; an address without a mask is one host.
func parsePrefix(v *netip.Prefix, src []byte) error {
	if bytes.IndexByte(src, '/') >= 0 {
		p, err := netip.ParsePrefix(string(src))
		if err != nil {
			return ErrSyntax
		}
		*v = p
		return nil
	}
	var a netip.Addr
	if err := parseAddr(&a, src); err != nil {
		return err
	}
	*v = netip.PrefixFrom(a, a.BitLen())
	return nil
}
