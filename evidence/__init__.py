"""The evidence behind the book's numbers: data, runs, studies, the ledger of claims, figures. Never installed with lai."""
