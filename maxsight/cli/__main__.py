from maxsight.cli import main

main()
