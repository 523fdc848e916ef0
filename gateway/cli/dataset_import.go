package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"edgegateway/gateway/dataset"
	"edgegateway/infer/train"
)

func datasetImportCommand() *cobra.Command {
	var f dataFlags
	var csv train.CSVConfig
	cmd := &cobra.Command{
		Use:   "import NAME SOURCE [LABELS]",
		Short: "Make a data set of a table, of pictures by class, or of IDX files",
		Long: `Make a data set NAME in the data folder. SOURCE is a table with a header, whose
column --target becomes the label; a folder of pictures by class,
SOURCE/CLASS/*.jpg; or a file of pictures in the form of MNIST (IDX, gzipped or
not), with LABELS; those of train-images-idx3-ubyte, train-labels-idx1-ubyte
beside it, are found. What became of each column is shown.`,
		Example: `  edgegateway dataset import room occupancy_train.csv --target Occupancy
  edgegateway dataset import door pictures/
  edgegateway dataset import digits train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := f.folder()
			if err != nil {
				return err
			}
			info, err := os.Stat(args[1])
			if err != nil {
				return invalid(err)
			}
			// Labels beside pictures are known by their names, as to --data.
			pair := dataSource{path: args[1]}
			if pictures, labels, ok := pair.idx(); ok && len(args) == 2 {
				args = []string{args[0], pictures, labels}
			}
			done := waiting("importing")
			next := func(int) error { return cmd.Context().Err() }
			var n int
			var columns []train.Column
			var refused []string
			switch {
			case len(args) == 3:
				n, err = dataset.ImportIDX(data, args[0], args[1], args[2], next)
			case info.IsDir():
				n, refused, err = dataset.ImportFolder(data, args[0], args[1], next)
			default:
				n, columns, err = dataset.ImportCSV(data, args[0], args[1], csv, next)
				err = nearestColumn(err)
			}
			done()
			showColumns(cmd.OutOrStdout(), columns)
			for _, r := range refused {
				fmt.Fprintln(cmd.ErrOrStderr(), "left out:", r)
			}
			if err != nil {
				if cmd.Context().Err() != nil {
					return err
				}
				return invalid(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s in %s\n", args[0], count(n, "sample"), dataset.Dir(data, args[0]))
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringSliceVar(&csv.Target, "target", nil, "of a table: the column that becomes the label")
	cmd.Flags().StringSliceVar(&csv.Drop, "drop", nil, "of a table: columns that are left out")
	cmd.Flags().StringVar(&csv.Time, "time", "", "of a table: the column of the time; the first that looks like one where it is empty")
	cmd.Flags().BoolVar(&csv.Regression, "regression", false, "of a table: the target is a number, also where it has few values")
	return cmd
}

// showColumns says what became of each column of a table.
func showColumns(out io.Writer, columns []train.Column) {
	if len(columns) == 0 {
		return
	}
	w := tabwriter.NewWriter(out, 2, 4, 2, ' ', 0)
	fmt.Fprintln(w, "COLUMN\tIS\tUSED AS\tHOLDS")
	for _, c := range columns {
		holds := ""
		switch {
		case c.Kind == "number":
			holds = fmt.Sprintf("%.6g to %.6g", c.Low, c.High)
		case c.Kind == "text" && c.Values != nil:
			holds = strings.Join(c.Values[:min(len(c.Values), 6)], ", ")
			if len(c.Values) > 6 {
				holds += fmt.Sprintf(" ... %d in all", len(c.Values))
			}
		}
		if c.Empty > 0 {
			holds += fmt.Sprintf(" (%d empty)", c.Empty)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Name, c.Kind, c.Use, holds)
	}
	_ = w.Flush() // as with every line that is printed
}
