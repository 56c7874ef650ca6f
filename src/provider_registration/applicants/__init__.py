"""The applicant's door: the pages at which a company applies and sees where its application stands."""
