"""The path of one inference request: observe > admit > route > (per version) validate > split > batch > execute."""
