package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/copradb/copra/cmd/copra/cluster"
	"github.com/copradb/copra/pd"
)

func newPD(version string) *cobra.Command {
	var (
		c common
		o pd.Config

		labels string
	)
	cmd := &cobra.Command{
		Use:   "pd",
		Short: "Run a placement driver: timestamps, regions, scheduling",
		Long: `Runs a placement driver (PD). One is enough to try things; three that name each other in
--initial-cluster survive the loss of one. Stores and clients are pointed to the
--client-addr of all of them. State lives in an etcd inside the process.

  copra pd --data-dir ./pd1 --client-addr 127.0.0.1:2379 --peer-addr 127.0.0.1:2380`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.checkListen(listen{"client-addr", "PD", o.ClientAddr}, listen{"peer-addr", "PD peer", o.PeerAddr}); err != nil {
				return err
			}
			if labels != "" {
				o.Schedule.LocationLabels = strings.Split(labels, ",")
			}
			var err error
			if o.Logger, err = c.logger(cmd.ErrOrStderr()); err != nil {
				return err
			}
			registry := cluster.NewRegistry()
			o.Registerer, o.GCResolver = registry, cluster.NewGCResolver
			server, err := pd.Start(cmd.Context(), o)
			if err != nil {
				return err
			}
			o.Logger.Info("pd: ready", "version", version, "client", server.ClientURL(), "cluster", server.ClusterID())
			select {
			case <-cmd.Context().Done():
			case err := <-server.Failed():
				server.Stop()
				return err
			}
			server.Stop()
			o.Logger.Info("pd: stopped")
			return nil
		},
	}
	c.register(cmd)
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "pd", "name of this member, unique in the cluster")
	f.StringVar(&o.DataDir, "data-dir", "./copra-pd", "where the state lives")
	f.StringVar(&o.ClientAddr, "client-addr", "127.0.0.1:2379", "address for stores, clients and HTTP")
	f.StringVar(&o.PeerAddr, "peer-addr", "127.0.0.1:2380", "address for the other placement drivers")
	f.StringVar(&o.AdvertiseClientAddr, "advertise-client-addr", "", "client address told to others (default --client-addr)")
	f.StringVar(&o.AdvertisePeerAddr, "advertise-peer-addr", "", "peer address told to others (default --peer-addr)")
	f.StringVar(&o.InitialCluster, "initial-cluster", "", "first members as name=http://host:peer-port, comma separated (default this one alone)")
	f.StringVar(&o.Join, "join", "", "client addresses of a running cluster to join, comma separated")
	f.BoolVar(&o.ForceNewCluster, "force-new-cluster", false, "go on alone with this data, because the other placement drivers are lost for good; once")
	f.IntVar(&o.Replicas, "replicas", 3, "peers of each region")
	f.StringVar(&labels, "location-labels", "", "labels of stores that tell where they are, from the widest place on: zone,host")
	f.StringVar(&o.Schedule.IsolationLevel, "isolation-level", "", "the location label in which a region's peers must differ")
	return cmd
}
